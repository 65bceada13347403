"""IronCore's API groups *.ironcore.dev: API server, controllers, schedulers, poollets, brokers."""
