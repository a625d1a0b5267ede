"""
The command ``batch``.
"""
