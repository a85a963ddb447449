"""What only a GPU shows: `make gpu` measures it in one go and writes `docs/gpu.md`.

A measurement is a module with `measure(size)`, which returns plain numbers, and `lines(found)`, which puts them into
sentences and tables; `MODULES` in `__main__` lists them. All of them run on a CPU too, in a tiny size, for the tests.
"""
