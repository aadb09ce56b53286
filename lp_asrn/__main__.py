"`python -m lp_asrn`, `torchrun -m lp_asrn`: what the command `lp_asrn` does"

from .tools.cli import main

if __name__ == "__main__":
    main()
