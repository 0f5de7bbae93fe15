"""The steps of a flow, in the order of the pipeline: events, route, decide, encode, outputs.

The only place outside flows/ that knows Bytewax; what a step does is elsewhere, and knows nothing of it. A stream item
is a batch, never an event.
"""
