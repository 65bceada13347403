"""`dpservice capture`: packets of guests and uplinks on this host, as a pcap file or live. Begin with `main.py`."""
