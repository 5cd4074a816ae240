"""The colours of classes: those of Pascal VOC, whose tools know no others."""

Colour = tuple[int, int, int]


def voc_colour(number: int) -> Colour:
    """Red, green and blue for a pixel value, 0 (background) being black: the value's bits in
    turn become the highest bits of the three (VOCdevkit, VOClabelcolormap.m)."""
    red = green = blue = 0
    for place in range(8):
        bits = number >> 3 * place
        red |= (bits & 1) << 7 - place
        green |= (bits >> 1 & 1) << 7 - place
        blue |= (bits >> 2 & 1) << 7 - place
    return red, green, blue


def hexadecimal(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
