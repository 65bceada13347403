"""The global network control plane: kinds of core.apinet.ironcore.dev.

`apiserver/` serves them and gives out VNIs; `apinetlet/` brings networks and interfaces from the core API,
`metalnetlet/` takes them to one partition's metalnet API and brings its nodes and states back. `model/` is pure:
identities, VNI choice, rules across fields. Each process talks to API servers only through
`services.apimachinery.client`.
"""
