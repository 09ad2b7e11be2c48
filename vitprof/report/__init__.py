"""Results to text for people and for programs: one file a format, each a function from records to text.

Nothing here measures, reads the store or writes a file; `rich` and `pydantic` are loaded only by the formats that
need them.
"""
