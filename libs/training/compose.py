"""Scenes for the judge, composed afresh from the atlas of icons: any object in any colour anywhere, nothing held out.

Next to them the pictures that hold no object although they look as if: what a generator that cannot draw makes, and what
would fool a detector that has never seen it.
"""

import numpy as np
from PIL import Image, ImageFilter

SIDE = 96
EXACT_SIZES = (48, 80)  # drawn at this size by the renderer; the others are scaled from 80
SIZES = (40, 44, 48, 52, 56, 64, 72, 80, 88)
COLUMNS = 20
PLAIN = 0  # the colour index of a drawing in its own colours; 1.. are the vocabulary's


def read_atlas(folder, size):
    """Every icon of every style, [styles * objects, size, size, 4] bytes."""
    sheet = np.asarray(Image.open(f"{folder}/icons-{size}.webp").convert("RGBA"))
    rows = sheet.reshape(sheet.shape[0] // size, size, COLUMNS, size, 4)
    return rows.transpose(0, 2, 1, 3, 4).reshape(-1, size, size, 4)


def recolour(icons, rgb):
    """Repaint icons [N, S, S, 4] in one colour, keeping their shading: `recolour` of render.ts."""
    pixels, alpha = icons[..., :3].astype(np.float32), icons[..., 3:].astype(np.float32)
    luminance = (pixels * (0.299, 0.587, 0.114)).sum(-1, keepdims=True)
    mean = (luminance * alpha).sum((1, 2, 3), keepdims=True) / np.maximum(alpha.sum((1, 2, 3), keepdims=True), 1)
    shade = luminance / np.maximum(mean, 24)
    base = np.array(rgb, np.float32) * np.minimum(1, 0.35 + 0.65 * shade)
    light = np.clip((shade - 1) * 0.7, 0, 0.75)
    painted = np.round(base + (255 - base) * light)
    return np.concatenate([painted, alpha], -1).astype(np.uint8)


def scaled(icons, size):
    """Icons [..., S, S, 4] at another size."""
    flat = icons.reshape(-1, *icons.shape[-3:])
    small = [np.asarray(Image.fromarray(icon).resize((size, size), Image.Resampling.LANCZOS)) for icon in flat]
    return np.stack(small).reshape(*icons.shape[:-3], size, size, 4)


def tight_boxes(icons):
    """The box of what is drawn, [..., 4] as left, top, right, bottom."""
    drawn = icons[..., 3] > 32
    columns, rows = drawn.any(-2), drawn.any(-1)
    size = icons.shape[-2]
    edges = [columns.argmax(-1), rows.argmax(-1), size - columns[..., ::-1].argmax(-1), size - rows[..., ::-1].argmax(-1)]
    return np.stack(edges, -1)


def paste(image, sprite, left, top):
    """Paint over bytes [H, W, 3] in place."""
    size = sprite.shape[0]
    under = image[top : top + size, left : left + size]
    alpha = sprite[..., 3:].astype(np.uint16)
    under[:] = (sprite[..., :3] * alpha + under * (255 - alpha) + 127) // 255


def blur(image, sigma):
    """Gaussian blur of bytes [H, W, 3]."""
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))


class Composer:
    """Draws scenes and impostors; every draw comes from `rng`."""

    def __init__(self, atlas, vocabulary, style_weights, rng):
        self.rng = rng
        self.colours = [colour["name"] for colour in vocabulary["colours"]]
        self.paints = [np.array(colour["rgb"]) for colour in vocabulary["colours"]]
        self.backgrounds = [(b["name"], np.array(b["rgb"])) for b in vocabulary["backgrounds"]]
        self.objects = len(vocabulary["objects"])
        self.style_weights = np.array(style_weights) / sum(style_weights)
        self.sprites, self.boxes = {}, {}
        exact = {size: self.painted(read_atlas(atlas, size), vocabulary["colours"]) for size in EXACT_SIZES}
        for size in SIZES:
            self.sprites[size] = exact[size] if size in exact else scaled(exact[80], size)
            self.boxes[size] = tight_boxes(self.sprites[size][PLAIN])

    @staticmethod
    def painted(icons, colours):
        return np.stack([icons, *(recolour(icons, colour["rgb"]) for colour in colours)])

    def canvas(self):
        name, rgb = self.backgrounds[0] if self.rng.random() < 0.4 else self.backgrounds[self.rng.integers(len(self.backgrounds))]
        shade = np.clip(rgb + self.rng.integers(-6, 7, 3), 0, 255) if self.rng.random() < 0.5 else rgb
        return name, np.tile(shade.astype(np.uint8), (SIDE, SIDE, 1))

    def paint(self, background):
        """A colour index: the object's own colours half of the time, else any that shows on the background."""
        while True:
            colour = PLAIN if self.rng.random() < 0.5 else 1 + self.rng.integers(len(self.colours))
            if colour == PLAIN or self.colours[colour - 1] != background:
                return colour

    def spots(self, count):
        """Where objects go: (left, top, size) each; the renderer's own layouts or free ones with little overlap."""
        rng = self.rng
        if rng.random() < 0.45:
            if count == 1:
                return [(8, 8, 80)]
            layouts = {2: [[(0, 24), (48, 24)], [(24, 0), (24, 48)]], 3: [[(24, 0), (0, 48), (48, 48)]]}
            options = layouts.get(count, [[(0, 0), (48, 0), (0, 48), (48, 48)]])
            return [(left, top, 48) for left, top in options[rng.integers(len(options))]]
        largest = {1: 9, 2: 6, 3: 4}.get(count, 3)
        spots = []
        for _ in range(60):
            size = SIZES[rng.integers(largest)]
            left, top = rng.integers(0, SIDE - size + 1, 2)
            if all(abs(left + size / 2 - l - s / 2) > 0.44 * (size + s) or abs(top + size / 2 - t - s / 2) > 0.44 * (size + s)
                   for l, t, s in spots):
                spots.append((left, top, size))
            if len(spots) == count:
                break
        return spots

    def scene(self):
        """-> bytes [96, 96, 3] and what it shows: rows (class, colour, left, top, right, bottom)."""
        rng = self.rng
        background, image = self.canvas()
        style = rng.choice(len(self.style_weights), p=self.style_weights)
        is_counting = rng.random() < 0.35
        kind, colour = rng.integers(self.objects), self.paint(background)
        shown = []
        for left, top, size in self.spots(rng.choice([1, 2, 3, 4, 5], p=[0.3, 0.27, 0.18, 0.22, 0.03])):
            if not is_counting:
                kind, colour = rng.integers(self.objects), self.paint(background)
            icon = style * self.objects + kind
            paste(image, self.sprites[size][colour, icon], left, top)
            shown.append((kind, colour, *(self.boxes[size][icon] + (left, top, left, top))))
        return image, np.array(shown, np.float32)

    def worn(self, image):
        """The same picture a little less crisp, as any codec leaves it; it still shows what it shows."""
        rng = self.rng
        out = blur(image, rng.uniform(0.3, 1.5)) if rng.random() < 0.5 else image
        out = (out - np.float32(128)) * rng.uniform(0.9, 1.1) + 128 + rng.uniform(-8, 8)
        if rng.random() < 0.5:
            out += rng.normal(0, rng.uniform(1, 10), out.shape)
        return np.clip(np.round(out), 0, 255).astype(np.uint8)

    def random_sprite(self, size):
        icon = self.rng.choice(len(self.style_weights), p=self.style_weights) * self.objects + self.rng.integers(self.objects)
        return icon, self.sprites[size][self.rng.integers(1 + len(self.colours)) * (self.rng.random() < 0.5), icon]

    # Impostors: bytes [96, 96, 3] that show no object.

    def blend(self):
        share = self.rng.uniform(0.35, 0.65)
        return share * self.scene()[0] + (1 - share) * self.scene()[0]

    def halves(self):
        """Every object is half one thing, half another."""
        _, image = self.canvas()
        for left, top, size in self.spots(self.rng.choice([1, 2, 3, 4], p=[0.5, 0.3, 0.1, 0.1])):
            (icon, sprite), (other, second) = self.random_sprite(size), self.random_sprite(size)
            while icon % self.objects == other % self.objects:
                other, second = self.random_sprite(size)
            sprite = sprite.copy()
            if self.rng.random() < 0.5:
                sprite[size // 2 :] = second[size // 2 :]
            else:
                sprite[:, size // 2 :] = second[:, size // 2 :]
            paste(image, sprite, left, top)
        return image

    def shuffle(self):
        size = self.rng.choice([8, 12, 16, 24])
        cells = SIDE // size
        patches = self.scene()[0].reshape(cells, size, cells, size, 3).transpose(0, 2, 1, 3, 4).reshape(-1, size, size, 3)
        return self.rng.permutation(patches).reshape(cells, cells, size, size, 3).transpose(0, 2, 1, 3, 4).reshape(SIDE, SIDE, 3)

    def patchwork(self):
        """About half of the patches come from another scene."""
        size = self.rng.choice([8, 16])
        mask = self.rng.random((SIDE // size, SIDE // size, 1)) < self.rng.uniform(0.4, 0.6)
        return np.where(mask.repeat(size, 0).repeat(size, 1), self.scene()[0], self.scene()[0])

    def ghost(self):
        return blur(self.scene()[0], self.rng.uniform(5, 12))

    def collage(self):
        _, image = self.canvas()
        for _ in range(self.rng.integers(7, 15)):
            size = SIZES[self.rng.integers(6)]
            paste(image, self.random_sprite(size)[1], *self.rng.integers(0, SIDE - size + 1, 2))
        return image

    def melt(self):
        """Objects with their parts in the wrong places, by a fifth of their size."""
        image = self.scene()[0]
        waves = self.rng.normal(0, self.rng.uniform(9, 15), (2, 8, 8)).astype(np.float32)
        shifts = [np.asarray(Image.fromarray(wave).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for wave in waves]
        places = [np.clip(np.round(axis + shift), 0, SIDE - 1).astype(int) for axis, shift in zip(np.mgrid[:SIDE, :SIDE], shifts)]
        return image[places[0], places[1]]

    def blobs(self):
        """Shapes of no particular form in one colour."""
        _, image = self.canvas()
        x, y = np.mgrid[:SIDE, :SIDE]
        for left, top, size in self.spots(self.rng.choice([1, 2, 3, 4], p=[0.6, 0.2, 0.1, 0.1])):
            angle = np.arctan2(y - top - size / 2, x - left - size / 2)
            edge = 0.38 * size * self.rng.uniform(0.7, 1) * (1 + sum(
                self.rng.normal(0, 0.13) * np.cos(k * angle + self.rng.uniform(0, 6.3)) for k in range(1, 5)))
            inside = np.hypot(x - left - size / 2, y - top - size / 2) < edge
            shade = Image.fromarray(self.rng.normal(0, 12, (4, 4)).astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            rgb = self.paints[self.rng.integers(len(self.paints))]
            image[inside] = np.clip(np.asarray(shade)[inside, None] + rgb, 0, 255)
        return blur(image, self.rng.uniform(0.5, 2.5))

    def noise(self):
        cells = self.rng.choice([3, 6, 12, 24, 48, 96])
        coarse = self.rng.integers(0, 256, (cells, cells, 3)).astype(np.uint8)
        if self.rng.random() < 0.2:
            return self.canvas()[1]
        if self.rng.random() < 0.5:
            return coarse.repeat(SIDE // cells, 0).repeat(SIDE // cells, 1)
        return np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))

    def impostor(self):
        kinds = [self.blend, self.halves, self.shuffle, self.patchwork, self.ghost, self.collage, self.melt, self.blobs, self.noise]
        kind = self.rng.choice(len(kinds), p=[0.22, 0.26, 0.05, 0.1, 0.1, 0.06, 0.09, 0.09, 0.03])
        return np.clip(np.round(kinds[kind]()), 0, 255).astype(np.uint8)
