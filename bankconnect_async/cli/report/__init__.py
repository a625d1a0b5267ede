"""
``bankconnect report``.
"""
