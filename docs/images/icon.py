"""Draws the icon of chatbox: a speech bubble with something to take out of it.

    python docs/images/icon.py

writes it as SVG, and as PNG for those who cannot show one, from the same shapes.
"""

from __future__ import annotations

from pathlib import Path

from chatbox.client.gui.paint import png

FOLDER = Path(__file__).parents[2] / "chatbox" / "client" / "gui" / "desktop"
SIZE = 256
PNG_SIZES = (64, 256)
SAMPLES = 4  # in each direction, a pixel

BLUE, WHITE = "#1f5fd6", "#ffffff"

Box = tuple[float, float, float, float, float]  # x, y, width, height, radius
Polygon = tuple[tuple[float, float], ...]
SHAPES: tuple[tuple[str, Box | Polygon], ...] = (
    (BLUE, (8.0, 8.0, 240.0, 240.0, 56.0)),
    (WHITE, (44.0, 50.0, 168.0, 126.0, 34.0)),
    (WHITE, ((74.0, 168.0), (124.0, 168.0), (74.0, 214.0))),
    (BLUE, (117.0, 70.0, 22.0, 46.0, 4.0)),
    (BLUE, ((92.0, 106.0), (164.0, 106.0), (128.0, 142.0))),
    (BLUE, (84.0, 148.0, 88.0, 12.0, 6.0)),
)


def is_box(shape: Box | Polygon) -> bool:
    """Say which of the two a shape is."""
    return isinstance(shape[0], float)


def svg() -> str:
    """The icon as SVG."""
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIZE} {SIZE}">']
    for colour, shape in SHAPES:
        if is_box(shape):
            x, y, width, height, radius = shape
            place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
            parts.append(f'  <rect {place} rx="{radius:g}" fill="{colour}"/>')
        else:
            points = " ".join(f"{x:g},{y:g}" for x, y in shape)
            parts.append(f'  <polygon points="{points}" fill="{colour}"/>')
    return "\n".join([*parts, "</svg>\n"])


def covers(shape: Box | Polygon, x: float, y: float) -> bool:
    """Whether a point lies in a shape."""
    if is_box(shape):
        left, top, width, height, radius = shape
        dx = max(left + radius - x, 0.0, x - (left + width - radius))
        dy = max(top + radius - y, 0.0, y - (top + height - radius))
        return dx * dx + dy * dy <= radius * radius
    sides = zip(shape, (*shape[1:], shape[0]), strict=True)
    turns = [(bx - ax) * (y - ay) - (by - ay) * (x - ax) for (ax, ay), (bx, by) in sides]
    return all(turn >= 0 for turn in turns) or all(turn <= 0 for turn in turns)


def paint(size: int) -> bytes:
    """The icon as PNG."""
    pixels = bytearray()
    step = SIZE / size / SAMPLES
    for y in range(size):
        for x in range(size):
            totals = [0, 0, 0, 0]
            for sample in range(SAMPLES * SAMPLES):
                px = (x * SAMPLES + sample % SAMPLES + 0.5) * step
                py = (y * SAMPLES + sample // SAMPLES + 0.5) * step
                colour = next((c for c, shape in reversed(SHAPES) if covers(shape, px, py)), "")
                if colour:
                    totals[3] += 1
                    for channel in range(3):
                        totals[channel] += int(colour[1 + 2 * channel : 3 + 2 * channel], 16)
            opaque = max(totals[3], 1)
            pixels += bytes(round(total / opaque) for total in totals[:3])
            pixels.append(round(255 * totals[3] / SAMPLES**2))
    return png(size, size, bytes(pixels))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "chatbox.svg").write_text(svg())
    for size in PNG_SIZES:
        (FOLDER / str(size)).mkdir(exist_ok=True)
        (FOLDER / str(size) / "chatbox.png").write_bytes(paint(size))
