"""What a reader could use instead: other ways to mend a mask by clicks, for comparison only.

Each module cites its source and says which known defect of it is mended. Nothing of the server
uses them.
"""
