"""What packets ought to do: a model of the data plane in plain Python, and packets to try it with.

`wire` reads, builds and rewrites packets, `fates` names what may become of one, `world` asks the API's state,
`flows` remembers conversations, `reference` is the pipeline. Nothing here is shared with the programs in C.
"""
