"""Files of records: bytes to rows of text, and rows back to bytes. Nothing here uses Django.

`format` says what a format is, and `registry` lists the formats; each format is one module.

The files may come from strangers and may be made to do harm. So nothing here knows a database, a
store or a setting: `child` runs the reading in a separate process with limits, and all other code
asks for it through `limited`. What a row means is decided later, elsewhere.
"""
