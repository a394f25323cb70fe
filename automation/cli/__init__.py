"""The command line has its commands, what they print, and the doctor here.

Each command imports what it needs when it runs. Nothing outside this room imports it.
"""
