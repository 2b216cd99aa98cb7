"""Arrays that something else wrote: a device, C code, MATLAB. `files` reads them, `description` says what they are,
`dump` finds a clip's arrays and turns them into what stands at a tap.
"""
