# cmake --install, and cpack -G DEB. A package is for any CPU: preset "package".
include(GNUInstallDirs)
set(data ${CMAKE_INSTALL_DATADIR}/jevons)
install(TARGETS jevons RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(PROGRAMS scripts/launch DESTINATION ${CMAKE_INSTALL_BINDIR} RENAME jevons-launch)
install(FILES scripts/mpi_env DESTINATION ${data})
install(FILES configs/tiny.yaml configs/prices.yaml DESTINATION ${data}/configs)
install(DIRECTORY configs/presets DESTINATION ${data}/configs)
install(FILES scripts/completion.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME jevons)
install(DIRECTORY docs DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES README.md CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright)

# The man pages: the program describes itself.
install(CODE "execute_process(COMMAND \"${CMAKE_COMMAND}\" \"-DPROGRAM=$<TARGET_FILE:jevons>\"
  \"-DOUTPUT=${PROJECT_BINARY_DIR}/jevons.1\" -P \"${PROJECT_SOURCE_DIR}/scripts/cmake/man_page.cmake\" COMMAND_ERROR_IS_FATAL ANY)")
file(WRITE ${PROJECT_BINARY_DIR}/jevons-launch.1 ".so man1/jevons.1\n")
install(FILES ${PROJECT_BINARY_DIR}/jevons.1 ${PROJECT_BINARY_DIR}/jevons-launch.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "Jevons maintainers <maintainers@jevons.invalid>")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS openmpi-bin)
if(JEVONS_NATIVE)
  file(WRITE ${PROJECT_BINARY_DIR}/not_for_packages.cmake
    "message(FATAL_ERROR \"this build runs on this machine's CPU only: use scripts/package\")\n")
  set(CPACK_PROJECT_CONFIG_FILE ${PROJECT_BINARY_DIR}/not_for_packages.cmake)
endif()
include(CPack)
