"""Fast forms of the functions in :mod:`snn_delay_plugins.functional`; :mod:`.dispatch` chooses between them."""
