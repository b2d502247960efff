# build/bin/muster-c++: compiles a user's program against runtime/train/train.h and links it, with the flags and
# libraries of this build. Everything is read from the target `train`, so that nothing is listed twice.

# The link line of a program that uses `target`, as one string in `out`: the libraries it depends on, all the way down.
function(muster_link_closure target out)
  set(todo ${target})
  set(seen "")
  set(line "")
  while(todo)
    list(POP_FRONT todo item)
    string(REGEX REPLACE "^\\$<LINK_ONLY:(.*)>$" "\\1" item "${item}")
    # What -Wl brackets around one library means nothing in another order; the whole line is --as-needed.
    if(item IN_LIST seen OR item MATCHES "^-Wl,")
      continue()
    endif()
    list(APPEND seen "${item}")
    if(TARGET "${item}")
      get_target_property(type ${item} TYPE)
      if(NOT type STREQUAL "INTERFACE_LIBRARY")
        string(APPEND line " $<TARGET_LINKER_FILE:${item}>")
      endif()
      get_target_property(next ${item} INTERFACE_LINK_LIBRARIES)
      if(next)
        list(APPEND todo ${next})
      endif()
    elseif(item MATCHES "^[a-zA-Z0-9]")  # a library by its bare name
      string(APPEND line " -l${item}")
    else()  # a file, an option, or a generator expression
      string(APPEND line " ${item}")
    endif()
  endwhile()
  set(${out} "-Wl,--start-group${line} -Wl,--end-group" PARENT_SCOPE)
endfunction()

function(muster_user_compiler)
  muster_link_closure(train link_line)
  set(compile_options "$<TARGET_PROPERTY:train,INTERFACE_COMPILE_OPTIONS>")
  # Our own warnings, and that they are errors, are not for the user's code.
  set(compile_options "$<FILTER:${compile_options},EXCLUDE,^-W>")
  set(definitions "$<TARGET_PROPERTY:train,INTERFACE_COMPILE_DEFINITIONS>")
  set(includes "$<REMOVE_DUPLICATES:$<TARGET_PROPERTY:train,INTERFACE_INCLUDE_DIRECTORIES>>")
  set(link_options "$<TARGET_PROPERTY:train,INTERFACE_LINK_OPTIONS>")

  set(COMPILE_FLAGS "-std=c++20 -O2 $<JOIN:${compile_options}, > $<$<BOOL:${definitions}>:-D$<JOIN:${definitions}, -D>>")
  set(COMPILE_FLAGS "${COMPILE_FLAGS} $<$<BOOL:${includes}>:-I$<JOIN:${includes}, -I>>")
  set(LINK_FLAGS "$<JOIN:${link_options}, > ${link_line}")
  configure_file(cmake/muster-c++.in ${CMAKE_BINARY_DIR}/muster-c++.configured @ONLY)
  file(GENERATE OUTPUT ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/muster-c++
       INPUT ${CMAKE_BINARY_DIR}/muster-c++.configured
       FILE_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
endfunction()

if(TARGET train)
  muster_user_compiler()
endif()
