"""The MONAI Label app: the only code that knows the server. All imports are at module level.

MONAI Label takes the app's folder off the path once ``main.py`` is loaded.
"""
