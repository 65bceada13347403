"""What a controller is made of: informer, work queue, reconciler, manager, leader election, event recorder.

Everything here talks to an API server only through `client/interface.py`. The rules are pure modules that get the time
as an argument (`cache`, `schedule`, `election`, `series`, `conditions`); beside each stands the module that does the
I/O (`informer`, `queue`, `leader`, `recorder`). Read `reconciler.py` first.
"""
