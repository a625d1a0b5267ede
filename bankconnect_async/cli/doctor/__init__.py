"""
``bankconnect doctor``: find out why the API cannot be used.
"""
