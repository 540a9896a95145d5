"""What the recipes share: data, networks, training, the store of finished runs, tables and plots."""
