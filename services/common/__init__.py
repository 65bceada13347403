"""What every process needs: settings, logs, TLS, gRPC servers and channels, tasks, back-off, a way to run and end.

No domain words live here, and nothing here knows a service. Read service.py, settings.py and tasks.py first.
"""
