"""What a reader could use instead: other ways to mend a mask by clicks, for comparison only.

Each module names its source, and the defect of it that is mended. Nothing of the server
uses them.
"""
