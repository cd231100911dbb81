"""`python -m cluster`: the command line, also where the console script is not on the path."""

from cluster.cli.main import main

main()
