"""Draw docs/loop.webp: a loop of a drawn walk, the frame beside the earlier one.

    python tools/draw_loop.py

The walk goes along a drawn street, comes back to its beginning and goes there again, a step to the
side. The picture has the last frame and its best earlier frame.
"""

from pathlib import Path

from placerec import LoopDetector, draw_match
from placerec.demo import render
from placerec.demo.town import Pose
from placerec.records import Place

OUT = Path(__file__).parent.parent / "docs" / "loop.webp"
LAP, AGAIN, METRES, ASIDE = 28, 7, 6.0, 0.8  # frames, frames, between frames, to the left


def main() -> None:
    """Walk, and draw the last frame beside the earlier one."""
    walk = [render(5, Pose(METRES * n, 0.0, 1.6, 20.0)) for n in range(LAP)]
    walk += [render(5, Pose(METRES * n + 0.5, ASIDE, 1.6, 23.0)) for n in range(AGAIN)]
    detector = LoopDetector(skip_seconds=5)
    for second, pixels in enumerate(walk):
        loops = detector.add(pixels, second)
    best = loops[0]
    print(f"frame {best.frame}: frame {best.earlier}, confidence {best.confidence:.2f}")
    assert best.accepted
    place = Place(1, str(best.earlier), best.score, best.global_score, matches=best.matches)
    draw_match(walk[best.frame], walk[best.earlier], place, OUT)


if __name__ == "__main__":
    main()
