"""A drawn town: pictures of any number of places, with exact poses, without any data."""

from placerec.demo.photos import demo_pose, position_of, write_demo_photos
from placerec.demo.town import Pose, render

__all__ = ["Pose", "demo_pose", "position_of", "render", "write_demo_photos"]
