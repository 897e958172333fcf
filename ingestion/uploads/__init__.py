"""The way of a file from staff: how it is laid out, what is in it, and onto the queue.

Two steps run in the background, and each can be killed at any moment and begun again without
losing or doubling a row. *Reading* judges every row and changes nothing but the upload's own
findings. *Queueing* pushes the rows found ready in chunks, each of which is one push that does
nothing when it comes again.
"""
