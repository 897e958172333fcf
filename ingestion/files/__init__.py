"""Files of records: bytes in, rows of text out, and the way back, and nothing of Django.

`format` says what a format is, `registry` which there are; each is one module.

What is read here may come from a stranger and may have been made to do harm. So nothing here knows
a database, a store or a setting: `child` runs it in a process of its own, within limits, and
`limited` is how everybody else asks for that. What a row means is decided after it, elsewhere.
"""
