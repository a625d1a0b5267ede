"""
Convert between bytes and models; no I/O, no clock.
"""
