"""
``bankconnect batch``.
"""
