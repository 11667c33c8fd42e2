"""Arithmetics in which one formula text is evaluated: plain formats, rounded, ball and dual.

A text is straight-line NumPy. NumPy hands each call to the array class that it meets (`__array_ufunc__`,
`__array_function__`), so the same text gives a plain value, the interval of all legal computed values
(`Rounded`), a proven enclosure (`Ball`) or a derivative (`Dual` over any of them).
"""
