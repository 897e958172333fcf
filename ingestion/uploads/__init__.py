"""The steps of a file from staff: how it is laid out, what it holds, and its way to the queue.

Two steps run in the background. Each can be killed at any moment and started again without losing
or doubling a row. *Reading* validates every row and changes only the upload's own findings.
*Queueing* pushes the rows that are ready in chunks. Each chunk is one push, and a repeated push
does nothing.
"""
