"""
Faults that the sandbox injects.
"""
