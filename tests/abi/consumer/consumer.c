/* SPDX-License-Identifier: Apache-2.0 */
/* The smallest user of an installed pintable: prints the version, uses one function. */

#include <pintable/status.h>
#include <pintable/version.h>

#include <stdio.h>

int main(void)
{
    if (pint_status_name(PINT_OK) == NULL) {
        return 1;
    }
    return puts(PINT_VERSION_STRING) < 0;
}
