"""The interpreter's tests run in a process of their own: test_triton_kernels.py starts it."""
import os

collect_ignore = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["in_triton_interpreter.py"]
