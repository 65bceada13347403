"""What a guest gets from its gateway. ARP and neighbor discovery are wholly in `bpf/`; DHCP replies are made here."""
