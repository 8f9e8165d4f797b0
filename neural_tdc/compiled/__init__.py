"""Updates as compiled programs: kernels, loops over them in C++, blocks of runs, CUDA graphs.

What is called privately in torch's compiler is in `private_compiler` alone.
"""
