"""What other programs write: read, or refused with what to do (docs/PHOTOS.md has the list)."""

import json

import pytest

from placerec.errors import BadTable, Damaged
from placerec.photos import read_positions
from placerec.photos.xmp import gps_from_xmp
from placerec.records import Position

HERE = Position(52.2058, 0.1218)
TAGS = [{"SourceFile": "a.jpg", "GPSLatitude": 52.2058, "GPSLongitude": 0.1218}]
GPX = '<?xml version="1.0"?><gpx xmlns="http://www.topografix.com/GPX/1/1">'
POINT = '<trkpt lat="52.2058" lon="0.1218"><ele>0</ele><time>2024-05-01T12:00:00.000Z</time>'


def read(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_positions(path)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('SourceFile,GPSLatitude,GPSLongitude,GPSPosition\n'
                     'a.jpg,"52 deg 12\' 20.88"" N","0 deg 7\' 18.48"" E","52 deg 12\' '
                     '20.88"" N, 0 deg 7\' 18.48"" E"\n'
                     "b.jpg,,,\n", id="exiftool -csv"),
        pytest.param("SourceFile,GPSLatitude,GPSLongitude\na.jpg,+52.205800,+0.1218\nb.jpg,,\n",
                     id="exiftool -csv -n"),
        pytest.param("sep=;\r\nFile Name;GPS Latitude;GPS Longitude\r\na.jpg;52,2058;0,1218\r\n",
                     id="Excel"),
        pytest.param("imagename,latitude,longitude,altitude\na.jpg,52.2058,0.1218,20\n",
                     id="Pix4D with a header"),
        pytest.param("#name,lat,long,alt\na.jpg,52.2058,0.1218,20\n", id="RealityCapture"),
        pytest.param("image longitude latitude altitude yaw\na.jpg   0.1218 52.2058 20 0\n",
                     id="ODM or COLMAP with a header"),
        pytest.param("Photo #,Image-Name,lat,lon\n1,a.jpg,52.2058,0.1218\n", id="numbers"),
        pytest.param(",image_name,lat,lon\n0,a.jpg,52.2058,0.1218\n", id="pandas"),
        pytest.param("name,lat,lon\na.jpg,52.2058°,0.1218°\n", id="degree signs"),
    ],
)  # fmt: skip
def test_a_table_of_another_program_is_read(tmp_path, text):
    position = read(tmp_path, "positions.csv", text).by_name["a.jpg"]
    assert position.latitude == pytest.approx(HERE.latitude, abs=1e-12)
    assert position.longitude == pytest.approx(HERE.longitude, abs=1e-12)


def test_the_minus_sign_of_typography_is_read(tmp_path):
    text = "name,lat,lon\na.jpg,\u221233.92,\u22120° 7′ 18.48″\n"
    assert read(tmp_path, "a.csv", text).by_name["a.jpg"] == Position(
        -33.92, pytest.approx(-0.1218)
    )


@pytest.mark.parametrize(
    "points",
    [
        pytest.param(f"{POINT}<extensions><t:TrackPointExtension xmlns:t='t'><t:hr>99</t:hr>"
                     "</t:TrackPointExtension></extensions></trkpt>", id="Garmin"),
        pytest.param(f"{POINT}</trkpt>", id="Lightroom"),
    ],
)  # fmt: skip
def test_a_track_of_another_program_is_read(tmp_path, points):
    positions = read(tmp_path, "a.gpx", f"{GPX}<trk><trkseg>{points}</trkseg></trk></gpx>")
    assert positions.of("a.jpg", positions.span[0]) == HERE


def test_a_side_car_of_digikam_is_read():
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
        b'syntax-ns#"><rdf:Description rdf:about="" xmlns:exif="http://ns.adobe.com/exif/1.0/"'
        b' exif:GPSVersionID="2.0.0.0" exif:GPSLatitude="52,12.34800000N"'
        b' exif:GPSLongitude="0,7.30800000E" exif:GPSMapDatum="WGS-84"/></rdf:RDF></x:xmpmeta>'
    )
    assert gps_from_xmp(packet).position == Position(52.2058, pytest.approx(0.1218))


COLUMNS = "the header needs one .*latitude .or lat, GPSLatitude. and one longitude"
NO_HEADER = "there is no header: put a first line with a name for each column, such as image,lati"
SAVE = "; save it as CSV UTF-8, or a track as GPX with the suffix .gpx"


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("exiftool -csv -G.csv", "SourceFile,EXIF:GPSLatitude,EXIF:GPSLongitude\n", COLUMNS),
        ("exiftool -T.txt", "a.jpg\t52.2058\t0.1218\n", NO_HEADER),
        ("exiftool.json", json.dumps(TAGS, indent=2), f"the file is JSON{SAVE}"),
        ("mapillary.json", json.dumps(TAGS), f"the file is JSON{SAVE}"),
        ("a.jpg.json", '{"title": "a.jpg", "geoData": {}}', f"the file is JSON{SAVE}"),
        ("a.geojson", ' {"type": "FeatureCollection"}', f"the file is JSON{SAVE}"),
        ("QGIS AS_XY.csv", "X,Y,name\n0.1218,52.2058,a.jpg\n", COLUMNS),
        ("QGIS AS_WKT.csv", 'WKT,name\n"POINT (0.1218 52.2058)",a.jpg\n', COLUMNS),
        ("geo.txt", "EPSG:4326\na.jpg 0.1218 52.2058 20\n", COLUMNS),
        ("utm geo.txt", "WGS84 UTM 32N\na.jpg 500000 5000000 20\n", COLUMNS),
        ("pix4d.csv", "a.jpg,52.2058,0.1218,20\n", NO_HEADER),
        ("colmap.txt", "a.jpg 52.2058 0.1218 20\n", NO_HEADER),
        ("metashape.txt", "#Label,X/Longitude,Y/Latitude\na.jpg,0.1,52.2\n", COLUMNS),
        ("mapillary.csv", "id,computed_geometry.lat,computed_geometry.long\n1,2,3\n", COLUMNS),
        ("logger.csv", "time,lat,lon\n2024-05-01T12:00:00Z,1,2\n", "the header needs one image"),
        ("german.csv", "Bild;Länge\na;1\n".encode("cp1252"), f"{COLUMNS}.*save the table as CSV"),
        ("a.xlsx", b"PK\x03\x04\x14\0\x06\0", f"the file is a spreadsheet or an archive{SAVE}"),
        ("a.ods", b"PK\x03\x04\nmimetype", f"the file is a spreadsheet or an archive{SAVE}"),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0", f"the file is not text{SAVE}"),
        ("a.fit", b"\x0e\x10\x43\x08\x78\x06\x09\0.FIT", f"the file is not text{SAVE}"),
        ("a.txt", "image\tlat\tlon\n".encode("utf-16-le"), f"the file is not text{SAVE}"),
        ("a.kml", '<?xml version="1.0"?>\n<kml/>', f"the file is XML{SAVE}"),
        ("a.tcx", '<?xml version="1.0"?><TrainingCenterDatabase/>', f"the file is XML{SAVE}"),
        ("a.nmea", "$GPGGA,123519,4807.038,N\n", f"the file is NMEA{SAVE}"),
    ],
)  # fmt: skip
def test_another_file_is_refused_with_what_to_do(tmp_path, name, content, why):
    with pytest.raises(BadTable, match=f"line 1: {why}"):
        read(tmp_path, name, content)


@pytest.mark.parametrize("point", ["wpt", "rtept"])
def test_waypoints_and_routes_are_no_track(tmp_path, point):
    text = f"{GPX}{POINT}</trkpt></gpx>".replace("trkpt", point)
    with pytest.raises(Damaged, match="no track points with a time"):
        read(tmp_path, "a.gpx", text)


def test_a_header_with_another_separator_than_its_rows_is_refused(tmp_path):
    with pytest.raises(BadTable, match=r"line 2: 1 values for 3 columns .*another separator"):
        read(tmp_path, "a.csv", "image,lat,lon\na.jpg 52.2058 0.1218\n")
