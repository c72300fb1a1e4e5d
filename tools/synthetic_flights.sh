#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Writes OUTFILE: a made-up table of the shape of the 2013 New York flights (336,776 rows, 19 columns
# of the same names and kinds, the same share of missing values), for machines without a network.
# The same on every run. usage: synthetic_flights.sh OUTFILE
set -euo pipefail
(($# == 1)) || { echo "usage: synthetic_flights.sh OUTFILE" >&2; exit 64; }

awk 'BEGIN {
    srand(2013)
    split("UA AA B6 DL EV MQ US WN VX FL AS 9E F9 HA YV OO", carriers, " ")
    split("EWR LGA JFK", origins, " ")
    print "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier," \
        "flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour"
    for (i = 0; i < 336776; i++) {
        month = 1 + int(i / 28065); if (month > 12) month = 12
        day = 1 + int(28 * rand())
        hour = 5 + int(18 * rand()); minute = int(60 * rand())
        scheduled = hour * 100 + minute
        miles = 80 + int(2500 * rand() * rand())
        minutes = int(30 + miles / 7.5 + 20 * rand())
        delay = int(-8 + 40 * rand() * rand() * rand() * 8)
        if (rand() < 0.0245) { # cancelled
            dep = "NA"; delay = "NA"; arr = "NA"; arr_delay = "NA"; air = "NA"
        } else {
            dep = scheduled; arr = (scheduled + minutes) % 2400; arr_delay = delay + int(30 * rand()) - 20
            air = minutes
        }
        tail = rand() < 0.0075 ? "NA" : sprintf("N%05d", int(4043 * rand()))
        printf "2013,%d,%d,%s,%d,%s,%s,%d,%s,%s,%d,%s,%s,D%02d,%s,%d,%d,%d,2013-%02d-%02dT%02d:00:00Z\n",
            month, day, dep, scheduled, delay, arr, (scheduled + minutes) % 2400, arr_delay,
            carriers[1 + int(16 * rand())], 1 + int(6000 * rand()), tail,
            origins[1 + int(3 * rand())], int(100 * rand()), air, miles, hour, minute, month, day, hour
    }
}' >"$1.part"
mv "$1.part" "$1"
