"""
``POST session/`` in every documented dialect.
"""
