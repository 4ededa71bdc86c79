"""What may be done to a picture, and what the one number beside each operation means.

Numbers and directions are Pillow's, as timm calls it. With pixel centres at half integers, an affine operation
gives output pixel (x, y) the colour of the input at the place named below; outside lies the fill colour.
"""

from enum import IntEnum


class Op(IntEnum):
    """An operation on a uint8 RGB picture of the same size; its argument in the comment."""

    NOTHING = 0  # -
    AUTO_CONTRAST = 1  # -; each channel's darkest pixel to 0, brightest to 255
    EQUALIZE = 2  # -; each channel's histogram made level
    INVERT = 3  # -; 255 - value
    ROTATE = 4  # degrees counter-clockwise about the picture's centre
    POSTERIZE = 5  # whole bits kept, 0 to 8; 0 leaves black, 8 the picture
    SOLARIZE = 6  # whole threshold, 0 to 256: values at or above are inverted
    SOLARIZE_ADD = 7  # whole number, 0 to 128, added to values below 128, up to 255
    COLOR = 8  # factor: 0 grey, 1 the picture; the "saturation" of colour jitter
    CONTRAST = 9  # factor: 0 the mean grey, 1 the picture
    BRIGHTNESS = 10  # factor: 0 black, 1 the picture
    SHARPNESS = 11  # factor: 0 smoothed, 1 the picture, 2 sharpened
    SHEAR_X = 12  # factor: from (x + factor * y, y)
    SHEAR_Y = 13  # factor: from (x, y + factor * x)
    TRANSLATE_X = 14  # fraction of the width: from (x + fraction * width, y)
    TRANSLATE_Y = 15  # fraction of the height: from (x, y + fraction * height)
    HUE = 16  # fraction of the colour circle, -0.5 to 0.5; HSV's hue byte moves by int(255 * fraction) modulo 256
    GRAYSCALE = 17  # -; luma in all three channels
    BLUR = 18  # standard deviation of the Gaussian in pixels; Pillow's three box blurs


AFFINE = (Op.ROTATE, Op.SHEAR_X, Op.SHEAR_Y, Op.TRANSLATE_X, Op.TRANSLATE_Y)
FILL = (124, 116, 104)  # ImageNet's mean colour: round(255 * (0.485, 0.456, 0.406))
