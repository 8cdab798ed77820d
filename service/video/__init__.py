"""From a video file to sampled frames: the same code for training, evaluation, export and serving."""

import os

# FFmpeg prints about every odd file; a decode process sets these otherwise and reads what it prints.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

# An upload must not open other files or addresses: playlists (HLS, DASH, concat) do. Only containers that hold
# their own bytes, and streams without one, only from the local file.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,gif,ogg,apng,mxf,nut,ivf,yuv4mpegpipe,dv,"
    "h264,hevc,vvc,m4v,mjpeg,av1,obu"
)
DEMUXER_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "|".join(f"{name};{value}" for name, value in DEMUXER_OPTIONS.items())
