"""What the recipes share, in rooms. Each imports from those before it and from :mod:`recipes.engine.errors` and
:mod:`recipes.engine.stopping`, never from those after: ``files``, ``data``, ``training``, ``results``, ``command``.
"""
