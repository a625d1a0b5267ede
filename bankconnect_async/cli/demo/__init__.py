"""
``bankconnect demo``.
"""
