"""What the data plane would do with a packet, step by step: `dpservice trace`.

`packets.py` makes and reads packets, `pcap.py` reads captures, `story.py` tells what the steps mean; `main.py` is the
command line. The programs themselves are tried by `engine/trial.py`.
"""
