"""
Rate control against servers of many kinds, simulated and over sockets.
"""
