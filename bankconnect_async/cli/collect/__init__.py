"""
The command ``collect``.
"""
