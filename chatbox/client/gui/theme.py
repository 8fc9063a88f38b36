"""How the widgets look: two ttk themes, the fonts, and lengths that fit the screen.

The themes are made once, at the start, from `palette` and `paint`; to change between them is one
call. Widgets that ttk does not style (Tk's text) ask to be told by `follow`.
"""

from __future__ import annotations

import tkinter as tk
from collections.abc import Callable
from tkinter import font, ttk
from typing import Any, Final

from chatbox.client.gui.paint import box
from chatbox.client.gui.palette import PALETTES, Palette

__all__ = ["MAX_ZOOM", "MIN_ZOOM", "Theme"]

MIN_ZOOM: Final = -3
MAX_ZOOM: Final = 8
"""Steps of a tenth that the fonts can be made smaller and larger."""

_PIXELS_PER_INCH: Final = 96  # for which the lengths in this package are given
_TILE: Final = 128  # pixels of a box that is laid out in tiles


class Theme:
    """The looks of one window."""

    def __init__(self, root: tk.Tk, name: str, zoom: int = 0) -> None:
        self.palette: Palette = PALETTES[name]
        self.zoom = zoom
        self._root = root
        self._style = ttk.Style(root)
        self._scale = root.winfo_fpixels("1i") / _PIXELS_PER_INCH
        self._followers: dict[str, Callable[[], object]] = {}
        self._images: list[tk.PhotoImage] = []  # Tk does not keep those that it shows
        usual = font.nametofont("TkDefaultFont", root)
        self._size: int = abs(usual.actual("size"))
        self.text = usual
        self.fixed = font.nametofont("TkFixedFont", root)
        self.bold = usual.copy()
        self.bold.configure(weight="bold")
        self.small = usual.copy()
        self.title = usual.copy()
        self.title.configure(weight="bold")
        for palette in PALETTES.values():
            self.palette = palette
            self._make(palette)
        self._resize_fonts()
        self.use(name)

    def px(self, length: float) -> int:
        """A length in pixels of a usual screen, in those of this one."""
        return max(1, round(length * self._scale))

    def grown(self, length: float) -> int:
        """The same where letters must fit, which may have been made larger."""
        return self.px(length * (1 + max(0, self.zoom) / 10))

    def follow(self, widget: tk.Misc, follower: Callable[[], object]) -> None:
        """Call `follower` now, and whenever the looks change, as long as `widget` is there."""
        self._followers[str(widget)] = follower

        def forget(event: tk.Event[tk.Misc]) -> None:
            if event.widget is widget:
                self._followers.pop(str(widget), None)

        widget.bind("<Destroy>", forget, add=True)
        follower()

    def use(self, name: str) -> None:
        """Change to the theme of this name."""
        self.palette = PALETTES[name]
        self._style.theme_use(f"chatbox-{name}")
        self._root.configure(background=self.palette.ground)
        self._tell()

    def set_zoom(self, zoom: int) -> None:
        """Make all letters larger or smaller."""
        self.zoom = min(max(zoom, MIN_ZOOM), MAX_ZOOM)
        self._resize_fonts()
        self._tell()

    def style_popdown(self, combobox: ttk.Combobox) -> None:
        """Give a combobox's list, which is a plain Tk one, the colours of the theme."""
        palette = self.palette
        popdown = combobox.tk.call("ttk::combobox::PopdownWindow", combobox)
        options = {
            "background": palette.surface,
            "foreground": palette.text,
            "selectbackground": palette.hover,
            "selectforeground": palette.text,
            "highlightthickness": 0,
            "borderwidth": 0,
        }
        flat = [part for key, value in options.items() for part in (f"-{key}", value)]
        combobox.tk.call(f"{popdown}.f.l", "configure", *flat)

    # How it works

    def _tell(self) -> None:
        for follower in list(self._followers.values()):
            follower()

    def _resize_fonts(self) -> None:
        size = max(6, round(self._size * (1 + self.zoom / 10)))
        for one in (self.text, self.bold, self.fixed):
            one.configure(size=size)
        for name in ("TkTextFont", "TkHeadingFont", "TkMenuFont"):
            font.nametofont(name, self._root).configure(size=size)
        self.small.configure(size=max(6, round(size * 0.88)))
        self.title.configure(size=round(size * 1.9))
        # A style belongs to the theme in use, so each is set in each.
        now = self._style.theme_use()
        height = self.text.metrics("linespace") + self.px(9)
        for name in PALETTES:
            self._style.theme_use(f"chatbox-{name}")
            self._style.configure("Treeview", rowheight=height)
        self._style.theme_use(now)

    def _box(
        self, radius: float, fill: str, border: str = "", *, on: str, size: float = _TILE
    ) -> tk.PhotoImage:
        line = self._scale * (1.6 if size < _TILE else 1.0)
        data = box(self.px(size), radius * self._scale, fill, behind=on, border=border, width=line)
        image = tk.PhotoImage(master=self._root, data=data)
        self._images.append(image)
        return image

    def _make(self, p: Palette) -> None:
        """Make the ttk theme of a palette."""
        style = self._style
        name = f"chatbox-{p.name}"
        style.theme_create(name, parent="clam")
        style.theme_use(name)
        style.configure(
            ".",
            background=p.ground,
            foreground=p.text,
            fieldbackground=p.surface,
            bordercolor=p.border,
            lightcolor=p.surface,
            darkcolor=p.surface,
            troughcolor=p.ground,
            insertcolor=p.text,
            selectbackground=p.accent,
            selectforeground=p.on_accent,
            focuscolor=p.accent,
            font=self.text,
        )
        style.map(".", foreground=[("disabled", p.dim)])
        self._make_labels(p)
        for place, on in (("", p.ground), ("Card", p.surface)):
            # On each ground: as usual, the one that matters most, and both of them small.
            for name, fill, hover, text in (
                ("", p.raised, p.hover, p.text),
                ("Accent", p.accent, p.accent_hover, p.on_accent),
                ("Flat", on, p.hover, p.dim),
            ):
                for size, padding in (("", (16, 8)), ("Small", (12, 5))):
                    style_name = ".".join(filter(None, (f"{place}{size}{name}", "TButton")))
                    self._make_button(style_name, fill, hover, text, on, padding)
        self._make_fields(p)
        self._make_lists(p)
        self._make_bars(p)

    def _make_labels(self, p: Palette) -> None:
        style = self._style
        style.configure("Dim.TLabel", foreground=p.dim)
        style.configure("Small.TLabel", foreground=p.dim, font=self.small)
        style.configure("Bold.TLabel", font=self.bold)
        style.configure("Title.TLabel", font=self.title, background=p.surface)
        style.configure("Danger.TLabel", foreground=p.danger, background=p.surface)
        style.configure("Good.TLabel", foreground=p.good)
        style.configure("Warning.TLabel", foreground=p.warning)
        style.configure("Bad.TLabel", foreground=p.danger)
        style.configure("Surface.TFrame", background=p.surface)
        style.configure("Surface.TLabel", background=p.surface)
        style.configure("SurfaceDim.TLabel", background=p.surface, foreground=p.dim)
        style.configure("SurfaceBold.TLabel", background=p.surface, font=self.bold)
        style.configure("TPanedwindow", background=p.ground)
        style.configure("Sash", background=p.ground, sashthickness=self.px(8), gripcount=0)
        style.element_create(
            "Card.border",
            "image",
            self._box(9, p.surface, p.border, on=p.ground),
            ("focus", self._box(9, p.surface, p.accent, on=p.ground)),
            border=self.px(11),
            width=1,
            height=1,
        )
        style.layout("Card.TFrame", [("Card.border", {"sticky": "nsew"})])
        style.configure("Card.TFrame", background=p.ground)

    def _make_button(
        self, name: str, fill: str, hover: str, text: str, on: str, padding: tuple[int, int]
    ) -> None:
        style, p, element = self._style, self.palette, f"{name}.face"
        ring = p.text if fill == p.accent else p.accent
        style.element_create(
            element,
            "image",
            self._box(6, fill, on=on),
            ("disabled", self._box(6, on, p.border if fill != on else "", on=on)),
            ("pressed", self._box(6, hover, on=on)),
            ("active", "focus", self._box(6, hover, ring, on=on)),
            ("active", self._box(6, hover, on=on)),
            ("focus", self._box(6, fill, ring, on=on)),
            border=self.px(8),
            padding=0,
            width=self.px(16),
            height=self.px(16),
            sticky="nsew",
        )
        style.layout(name, _nested(element, "Button.padding", "Button.label"))
        style.configure(
            name,
            foreground=text,
            background=fill,
            anchor="center",
            padding=tuple(map(self.px, padding)),
        )
        # The label paints its ground, so that must follow the face.
        style.map(
            name,
            foreground=[("disabled", p.dim)],
            background=[("disabled", on), ("pressed", hover), ("active", hover)],
        )

    def _make_fields(self, p: Palette) -> None:
        style = self._style
        for place, on in (("", p.ground), ("Card", p.surface)):
            style.element_create(
                f"{place}Round.field",
                "image",
                self._box(6, p.surface, p.border, on=on),
                ("disabled", self._box(6, p.ground, p.border, on=on)),
                ("focus", self._box(6, p.surface, p.accent, on=on)),
                border=self.px(8),
                padding=0,
                width=self.px(16),
                height=self.px(16),
                sticky="nsew",
            )
        entry = _nested("CardRound.field", "Entry.padding", "Entry.textarea")
        style.layout("Card.TEntry", entry)
        style.layout("TEntry", _nested("Round.field", "Entry.padding", "Entry.textarea"))
        arrow = ("Combobox.downarrow", {"side": "right", "sticky": ""})
        inner = [arrow, *_nested("Combobox.textarea")]
        style.layout("TCombobox", _nested("Round.field", "Combobox.padding", inner=inner))
        for name, height in (("TEntry", 8), ("TCombobox", 8), ("Card.TEntry", 9)):
            style.configure(name, foreground=p.text, padding=(self.px(10), self.px(height)))
            style.map(name, foreground=[("disabled", p.dim)], selectbackground=[], background=[])
        style.configure(
            "TCombobox", arrowcolor=p.dim, arrowsize=self.px(14), background=p.surface,
            bordercolor=p.surface,
        )  # fmt: skip
        style.map("TCombobox", arrowcolor=[("active", p.text)])
        style.layout("Field.TFrame", [("Round.field", {"sticky": "nsew"})])
        style.configure("Field.TFrame", background=p.ground)

        self._make_choice("TRadiobutton", "Radiobutton", 8, p)
        self._make_choice("TCheckbutton", "Checkbutton", 4, p)

    def _make_choice(self, name: str, base: str, radius: int, p: Palette) -> None:
        """A button that is on or off, with a mark before its text."""
        style = self._style

        def mark(fill: str, border: str) -> tk.PhotoImage:
            return self._box(radius, fill, border, on=p.surface, size=16)

        style.element_create(
            f"{base}.mark",
            "image",
            mark(p.surface, p.dim),
            ("selected", "focus", mark(p.accent, p.text)),
            ("selected", "active", mark(p.accent_hover, p.border)),
            ("selected", mark(p.accent, p.border)),
            ("active", mark(p.hover, p.accent)),
            ("focus", mark(p.surface, p.accent)),
        )
        indicator: Any = (f"{base}.mark", {"side": "left", "sticky": ""})
        words = _nested(f"{base}.padding", f"{base}.label", side="left")
        style.layout(name, [indicator, *words])
        style.configure(name, background=p.surface, padding=(self.px(9), self.px(5)))
        style.map(name, background=[("active", p.surface)])

    def _make_lists(self, p: Palette) -> None:
        style = self._style
        style.layout("Treeview", [("Treeview.treearea", {"sticky": "nsew"})])
        style.layout("Treeview.Item", _nested("Treeitem.padding", "Treeitem.text", side="left"))
        style.configure("Treeview.Item", padding=(self.px(6), 0))
        style.configure(
            "Treeview", background=p.surface, fieldbackground=p.surface, foreground=p.text,
            borderwidth=0, indent=0,
        )  # fmt: skip
        style.map("Treeview", background=[("selected", p.hover)], foreground=[("selected", p.text)])
        style.element_create(
            "Round.thumb", "image", self._box(4, p.border, on=p.surface),
            ("disabled", self._box(4, p.surface, on=p.surface)),
            ("active", self._box(4, p.dim, on=p.surface)), padding=0, border=self.px(5),
            width=self.px(9), height=self.px(24), sticky="nsew",
        )  # fmt: skip
        thumb = [("Round.thumb", {"sticky": "nsew", "expand": 1})]
        style.layout("Vertical.TScrollbar", _nested("Vertical.Scrollbar.trough", inner=thumb))
        style.configure(
            "Vertical.TScrollbar", troughcolor=p.surface, borderwidth=0, bordercolor=p.surface,
            width=self.px(8),
        )  # fmt: skip

    def _make_bars(self, p: Palette) -> None:
        style = self._style
        for name, colour in (("", p.accent), ("Good.", p.good), ("Bad.", p.danger)):
            for part, fill in (("trough", p.border), ("pbar", colour)):
                style.element_create(
                    f"{name}Round.{part}", "image", self._box(4, fill, on=p.surface),
                    border=self.px(5), padding=0, width=self.px(10), height=self.px(10),
                    sticky="nsew",
                )  # fmt: skip
            bar = [(f"{name}Round.pbar", {"side": "left", "sticky": "ns"})]
            trough = _nested(f"{name}Round.trough", inner=bar)
            style.layout(f"{name}Horizontal.TProgressbar", trough)
            style.configure(f"{name}Horizontal.TProgressbar", background=colour)


def _nested(*elements: str, inner: Any = None, side: str = "") -> Any:
    """A ttk layout of elements each of which fills the one before; `inner` is in the last one."""
    for element in reversed(elements):
        options: dict[str, Any] = {"sticky": "nsew", **({"side": side} if side else {})}
        inner = [(element, {**options, "children": inner} if inner else options)]
    return inner
