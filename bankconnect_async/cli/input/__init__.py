"""
Read rows from files, pipes and stdin.
"""
