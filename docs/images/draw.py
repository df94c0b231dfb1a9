"""Draws the pictures of docs/concepts.md: python3 docs/images/draw.py [--check]

Colours work on light and dark pages. A picture is a list of boxes and arrows on a grid.
"""
import os, sys
from html import escape

HERE = os.path.dirname(os.path.abspath(__file__))
FILL = {"": "#eef2f7", "trust": "#e3f1e6", "device": "#fdf1dc"}
LINE = {"": "#5b6b80", "trust": "#2f7d4a", "device": "#a86a12"}


class Picture:
    def __init__(self, width, height, title):
        self.size, self.title, self.parts = (width, height), title, []

    def box(self, x, y, width, height, lines, kind=""):
        self.parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" '
                          f'fill="{FILL[kind]}" stroke="{LINE[kind]}" stroke-width="1.5"/>')
        top = y + height / 2 - (len(lines) - 1) * 9 + 5
        for n, line in enumerate(lines):
            weight = ' font-weight="600"' if n == 0 else ""
            self.text(x + width / 2, top + n * 18, line, weight)
        return self

    def group(self, x, y, width, height, name):
        self.parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="10" fill="none" '
                          'stroke="#8a97a8" stroke-width="1.2" stroke-dasharray="5 4"/>')
        self.text(x + 12, y + 20, name, ' text-anchor="start" font-style="italic"')
        return self

    def text(self, x, y, words, more=""):
        anchor = "" if "text-anchor" in more else ' text-anchor="middle"'
        self.parts.append(f'<text x="{x:g}" y="{y:g}"{anchor}{more}>{escape(words)}</text>')
        return self

    def arrow(self, points, words="", at=None):
        path = " ".join(f"{x},{y}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="#44546a" stroke-width="1.6" '
                          'marker-end="url(#end)"/>')
        if words:
            x, y = at or ((points[0][0] + points[-1][0]) / 2, (points[0][1] + points[-1][1]) / 2 - 7)
            self.text(x, y, words, ' font-size="12.5"')
        return self

    def svg(self):
        width, height = self.size
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
                f'font-family="system-ui, DejaVu Sans, sans-serif" font-size="14" fill="#1c2733">\n'
                f'<title>{escape(self.title)}</title>\n'
                '<defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
                'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#44546a"/></marker></defs>\n'
                f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n' + "\n".join(self.parts) + "\n</svg>\n")


def parts():
    p = Picture(860, 400, "The parts of Fleeti and what flows between them")
    p.box(20, 30, 150, 60, ["operators", "pages, fleeti, API"])
    p.box(690, 30, 150, 60, ["release keys", "people, offline"], "trust")
    p.group(220, 10, 420, 250, "server's machine")
    p.box(250, 45, 160, 70, ["fleeti-server", "only its TLS key"])
    p.box(470, 45, 150, 70, ["fleeti-signer", "keys, audit log"], "trust")
    p.box(250, 170, 160, 70, ["fleeti-worker", "Nix, no key"])
    p.box(470, 170, 150, 70, ["releases", "signed, immutable"], "trust")
    p.group(220, 280, 420, 105, "device")
    p.box(250, 310, 160, 60, ["agent", "certificate, TPM"], "device")
    p.box(465, 310, 160, 60, ["image", "verified, read-only"], "device")
    p.arrow([(170, 60), (250, 60)])
    p.arrow([(410, 80), (470, 80)], "ask", (438, 72))
    p.arrow([(330, 115), (330, 170)], "profile", (360, 147))
    p.arrow([(410, 205), (470, 205)], "image", (437, 197))
    p.arrow([(765, 90), (765, 205), (620, 205)], "signature", (725, 197))
    p.arrow([(545, 240), (545, 310)], "HTTPS", (571, 280))
    p.arrow([(250, 340), (120, 340), (120, 105), (250, 105)], "MQTT: report, proof", (120, 358))
    return p


def update():
    p = Picture(860, 300, "An update on a device: the other slot, boot counting, return")
    p.box(20, 40, 150, 60, ["slot A", "version 1 runs"], "device")
    p.box(20, 190, 150, 60, ["slot B", "empty"], "device")
    p.box(240, 190, 160, 60, ["download", "digest, signature"])
    p.box(450, 190, 160, 60, ["boot version 2", "at most 3 tries"])
    p.box(660, 190, 180, 60, ["health checks", "and server reached"])
    p.box(660, 40, 180, 60, ["version 2 is kept", "reported, proved"], "trust")
    p.box(450, 40, 160, 60, ["return to version 1", "by itself"], "device")
    p.arrow([(170, 220), (240, 220)])
    p.arrow([(400, 220), (450, 220)])
    p.arrow([(610, 220), (660, 220)])
    p.arrow([(750, 190), (750, 100)], "passed", (780, 150))
    p.arrow([(690, 190), (690, 145), (530, 145), (530, 100)], "failed, or a power cut", (610, 138))
    p.arrow([(450, 70), (170, 70)])
    return p


def proof():
    p = Picture(860, 260, "From the build to the proof of what runs")
    p.box(20, 30, 150, 60, ["build", "twice, same bytes"])
    p.box(240, 30, 180, 60, ["manifest", "expected PCR values"], "trust")
    p.box(660, 30, 180, 60, ["appraisal", "level L0 to L5"], "trust")
    chain = ["firmware", "systemd-boot", "signed UKI", "verified root", "agent"]
    p.group(20, 130, 820, 110, "device: each step measures the next one into the TPM, and verifies it")
    for n, name in enumerate(chain):
        p.box(40 + n * 160, 165, 130, 50, [name], "device")
        if n:
            p.arrow([(10 + n * 160, 190), (40 + n * 160, 190)])
    p.arrow([(170, 60), (240, 60)])
    p.arrow([(420, 60), (660, 60)], "what should run")
    p.arrow([(745, 165), (745, 90)], "what runs: quote", (745, 122))
    return p


def main():
    stale = []
    for name, picture in (("parts", parts()), ("update", update()), ("proof", proof())):
        path = f"{HERE}/{name}.svg"
        if "--check" in sys.argv:
            stale += [name] if not os.path.exists(path) or open(path).read() != picture.svg() else []
        else:
            open(path, "w").write(picture.svg())
    if stale:
        sys.exit(f"draw again: {', '.join(stale)}")


if __name__ == "__main__":
    main()
