"""What the controller itself costs and bears: many jobs, agents and watchers, no TensorFlow.

The controller is the real one in a process of its own: server, SQLite store, reconcile loop,
rendezvous, history. Below it pods are entries of a journal instead of processes, and in their
place processes of simulated agents call, with the real agents' own link. Whoever measures is
another process again and knows no more than any client.
"""
