"""Bring foreign data sets into a folder of studies: checked, without patient fields, reported."""
