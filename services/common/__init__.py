"""What every process needs: settings, logs, TLS, gRPC servers and channels, tasks, back-off.

No domain words live here, and nothing here knows a service. Read settings.py and tasks.py first.
"""
