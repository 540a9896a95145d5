"""Tables and figures of three papers on adaptation and delays in spiking networks, one command each.

``python -m recipes --list`` names them, ``python -m recipes run NAME --smoke`` shows one in a minute without
any data. A recipe is a short script with the numbers of one experiment, in the paper's terms; what recipes
share is in :mod:`recipes.engine`.
"""
