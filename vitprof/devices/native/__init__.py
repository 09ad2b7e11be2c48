"""Measuring programs that others wrote, for devices without Python: from a Plan to their arguments, from their words
to samples. One file a program, pure functions: who starts them and where is a transport's business.
"""
